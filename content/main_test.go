package content

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// goleveldb's mpoolDrain ends up to a second after its database is closed.
func TestMain(m *testing.M) {
	if args := os.Getenv(killedEnv); args != "" {
		killedProcess(args)
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}
