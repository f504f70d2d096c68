package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sttnode": main})
}

// TestScripts runs the command line as a person does: each script in
// testdata/script is a session in a shell.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("whole processes, minutes of them with the race detector; the integration tests run such with it, too")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			// Scripts name only what they are about.
			env.Setenv("STTNODE_LISTEN", "127.0.0.1:0")
			running := make(map[string]*exec.Cmd)
			env.Values[runningKey{}] = running
			env.Defer(func() {
				for _, cmd := range running {
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
				}
			})
			return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o755)
		},
		Condition: func(cond string) (bool, error) {
			return cond == "mortal" && runtime.GOOS != "windows" && os.Getuid() != 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":   scriptCode,
			"until":  scriptUntil,
			"start":  scriptStart,
			"quit":   scriptQuit,
			"await":  scriptAwait,
			"ready":  scriptReady,
			"word":   scriptWord,
			"mode":   scriptMode,
			"damage": scriptDamage,
			"random": scriptRandom,
			"tls":    scriptTLS,
		},
	})
}

// code N COMMAND…: runs the command, which must exit with N.
func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command args…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// until REGEXP COMMAND…: runs the command again and again, until its standard
// output fits.
func scriptUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until regexp command args…")
	}
	want := regexp.MustCompile(args[0])
	for end := time.Now().Add(scriptTimeout); ; {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("its output never fits %s; last error %v", want, err)
		}
	}
}

// runningKey finds the processes that start has started, by name.
type runningKey struct{}

// start NAME ARGS…: runs sttnode ARGS in the background, with its output in
// NAME.out and NAME.err, and NAME.in as its input, if there is that file.
func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start name args…")
	}
	cmd := exec.Command("sttnode", args[1:]...)
	path, err := exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), string(filepath.ListSeparator))[0], "sttnode"))
	ts.Check(err)
	cmd.Path, cmd.Err = path, nil
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "SYSTEMROOT", "STTNODE_LISTEN", "STTNODE_SHARED_SEED_FILE", "STTNODE_BOOTSTRAP"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	stdout, err := os.Create(ts.MkAbs(args[0] + ".out"))
	ts.Check(err)
	defer stdout.Close()
	stderr, err := os.Create(ts.MkAbs(args[0] + ".err"))
	ts.Check(err)
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if stdin, err := os.Open(ts.MkAbs(args[0] + ".in")); err == nil {
		defer stdin.Close()
		cmd.Stdin = stdin
	}
	ts.Check(cmd.Start())
	ts.Value(runningKey{}).(map[string]*exec.Cmd)[args[0]] = cmd
}

// quit NAME SIGNAL CODE: sends int, term or none to what start has started, and
// waits until it has exited with that code.
func scriptQuit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: quit name signal code")
	}
	running := ts.Value(runningKey{}).(map[string]*exec.Cmd)
	cmd := running[args[0]]
	if cmd == nil {
		ts.Fatalf("%s is not running", args[0])
	}
	if sig := map[string]os.Signal{"int": os.Interrupt, "term": syscall.SIGTERM}[args[1]]; sig != nil {
		ts.Check(cmd.Process.Signal(sig))
	}
	kill := time.AfterFunc(scriptTimeout, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait()
	delete(running, args[0])
	if got := cmd.ProcessState.ExitCode(); strconv.Itoa(got) != args[2] {
		ts.Fatalf("%s has exited with %d, want %s\n%s", args[0], got, args[2], ts.ReadFile(args[0]+".err"))
	}
}

// tls CERT KEY: makes a self-signed certificate and its key, as PEM files.
func scriptTLS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tls cert key")
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	ts.Check(err)
	key, err := x509.MarshalPKCS8PrivateKey(private)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
}

// scriptTimeout is how long a script waits for another process.
const scriptTimeout = 20 * time.Second

// await FILE [TEXT]: waits until the file exists and holds the text.
func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: await file [text]")
	}
	text := strings.Join(args[1:], " ")
	for deadline := time.Now().Add(scriptTimeout); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && len(b) > 0 && strings.Contains(string(b), text) {
			return
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			ts.Fatalf("%s does not hold %q: %v\n%s", args[0], text, err, b)
		}
	}
}

// ready VAR FILE FIELD: waits for a ready file and sets VAR to one of its
// fields.
func scriptReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: ready var file field")
	}
	scriptAwait(ts, false, args[1:2])
	var fields map[string]string
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &fields))
	if fields[args[2]] == "" {
		ts.Fatalf("%s has no %s: %v", args[1], args[2], fields)
	}
	ts.Setenv(args[0], fields[args[2]])
}

// word VAR FILE LINE WORD: sets VAR to a word of a line, both counted from 1.
// FILE may be stdout.
func scriptWord(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: word var file line word")
	}
	line, err := strconv.Atoi(args[2])
	ts.Check(err)
	word, err := strconv.Atoi(args[3])
	ts.Check(err)
	lines := strings.Split(ts.ReadFile(args[1]), "\n")
	if line > len(lines) || word > len(strings.Fields(lines[line-1])) {
		ts.Fatalf("%s has no word %d in line %d: %q", args[1], word, line, lines)
	}
	ts.Setenv(args[0], strings.Fields(lines[line-1])[word-1])
}

// mode FILE OCTAL: compares permissions.
func scriptMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode file octal")
	}
	want, err := strconv.ParseUint(args[1], 8, 32)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := info.Mode().Perm(); got != fs.FileMode(want) && runtime.GOOS != "windows" {
		ts.Fatalf("mode of %s is %04o, want %04o", args[0], got, want)
	}
}

// damage DIR: flips a byte in every file below DIR that is longer than 4 KiB.
func scriptDamage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: damage dir")
	}
	damaged := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) < 4<<10 {
			return err
		}
		b[2<<10] ^= 1
		damaged++
		return os.WriteFile(path, b, 0o600)
	}))
	if damaged == 0 {
		ts.Fatalf("nothing below %s to damage", args[0])
	}
}

// random FILE BYTES: writes a file that no other script has.
func scriptRandom(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: random file bytes")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(writeRandomFile(ts.MkAbs(args[0]), n))
}
