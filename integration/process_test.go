package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// The exit codes that the program promises to scripts.
const (
	exitOK             = 0
	exitError          = 1
	exitUsage          = 2
	exitPartly         = 3
	exitNoProvider     = 4
	exitStalled        = 5
	exitVerification   = 6
	exitDiskFull       = 9
	exitNotInitialised = 10
	exitStoreLocked    = 11
	exitWrongSeed      = 12
	exitInterrupted    = 130
)

// large says that contents are large and kills many.
var large = os.Getenv("STT_INTEGRATION") == "1"

// pick returns the value for this run's scale.
func pick[T any](small, big T) T {
	if large {
		return big
	}
	return small
}

// patience bounds every single wait. It is no figure that the program must reach: only what hangs exceeds it.
var patience = pick(time.Minute, 4*time.Minute)

var scratch string // of the whole run: the binary and shared contents

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "stt-integration-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		return m.Run()
	}())
}

var buildBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "sttnode")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	args := []string{"build", "-o", path}
	if os.Getenv("STT_RACE") == "1" {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "../cmd/sttnode")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// binary returns the path of the program, built once a run.
func binary(t testing.TB) string {
	t.Helper()
	path, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// output collects what a process writes. It may be read while the process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// process is one run of the program. The test that started it owns it: a process that is still there when that test ends is killed,
// after what it has printed has been logged if the test failed. The same goes for one that ended although nobody asked it to.
type process struct {
	name           string
	cmd            *exec.Cmd
	began          time.Time
	stdout, stderr output
	done           chan struct{} // closed when the process is gone and its output complete
	awaited        bool          // the test itself has ended the process, or seen it end
}

// launch starts the program in directory dir. The environment holds no setting of the program but those in env.
func launch(t testing.TB, name, dir string, env []string, args ...string) *process {
	t.Helper()
	return launchCommand(t, name, dir, env, append([]string{binary(t)}, args...)...)
}

// launchCommand is launch for a command that becomes the program.
func launchCommand(t testing.TB, name, dir string, env []string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(args[0], args[1:]...), began: time.Now(), done: make(chan struct{})}
	p.cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "STTNODE_") && !strings.HasPrefix(v, "HOME=") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(append(p.cmd.Env, "HOME="+dir, "GORACE=halt_on_error=1 atexit_sleep_ms=0"), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the exit code says it
	}()
	t.Cleanup(func() {
		if t.Failed() && !p.awaited {
			t.Log(p.report())
		}
		p.kill()
	})
	return p
}

// report describes the process for the log of a failed test.
func (p *process) report() string {
	state := "running"
	if p.exited() {
		state = p.cmd.ProcessState.String()
	}
	return fmt.Sprintf("%s: %s (%s)\nstdout: %s\nstderr: %s", p.name, strings.Join(p.cmd.Args[1:], " "), state, abridged(progress.ReplaceAllString(p.stdout.String(), "")), abridged(p.stderr.String()))
}

var progress = regexp.MustCompile(`(?m)^\{"event":"progress".*\n`)

// abridged shortens what a process has printed to its beginning and its end.
func abridged(s string) string {
	const most = 2 << 10
	if len(s) > 2*most {
		return s[:most] + "\n…\n" + s[len(s)-most:]
	}
	return s
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process as a power failure would, and waits until it is gone.
func (p *process) kill() {
	p.awaited = true
	if !p.exited() {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
}

// wait waits for the process to end by itself and returns its exit code.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
		p.awaited = true
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%s has not ended after %v", p.name, patience)
		return -1
	}
}

// expect waits for the process to end and demands its exit code.
func (p *process) expect(t testing.TB, code int) {
	t.Helper()
	if got := p.wait(t); got != code {
		t.Fatalf("%s: exit code %d, want %d\n%s", p.name, got, code, p.report())
	}
}

// stop asks the process to end and demands that it does so cleanly.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if runtime.GOOS == "windows" { // has no signals to ask with
		p.kill()
		return
	}
	p.signal(t, os.Interrupt)
	p.expect(t, exitOK)
}

// await waits until cond holds. The process ending first is a failure, unless cond holds then.
func (p *process) await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		gone := p.exited()
		switch {
		case cond():
			return
		case gone:
			t.Fatalf("%s ended before %s\n%s", p.name, what, p.report())
		case time.Now().After(deadline):
			t.Fatalf("%s: no %s within %v\n%s", p.name, what, patience, p.report())
		}
		<-tick.C
	}
}

// event is one line of --json. It has the fields of all events that the tests look at.
type event struct {
	Event          string   `json:"event"`
	Hash           string   `json:"hash"`
	Path           string   `json:"path"`
	NodeID         string   `json:"node_id"`
	Bytes          int64    `json:"bytes"`
	Chunks         int64    `json:"chunks"`
	Seconds        float64  `json:"seconds"`
	Sources        []source `json:"sources"`
	ResumedBytes   int64    `json:"resumed_bytes"`
	DuplicateBytes int64    `json:"duplicate_bytes"`
	BadBytes       int64    `json:"bad_bytes"`
	Error          string   `json:"error"`
	Code           int      `json:"code"`
}

type source struct {
	Node  string `json:"node"`
	Addr  string `json:"addr"`
	Bytes int64  `json:"bytes"`
}

// fetched is the sum of what came from others.
func (e event) fetched() (sum int64) {
	for _, s := range e.Sources {
		sum += s.Bytes
	}
	return sum
}

// events returns the complete lines so far. Every one must be a JSON object.
func (p *process) events(t testing.TB) []event {
	t.Helper()
	var events []event
	for line := range strings.Lines(p.stdout.String()) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: line %q is not JSON: %v", p.name, line, err)
		}
		events = append(events, e)
	}
	return events
}

// last returns the last event that the finished process printed.
func (p *process) last(t testing.TB) event {
	t.Helper()
	events := p.events(t)
	if len(events) == 0 {
		t.Fatalf("%s printed no event\n%s", p.name, p.report())
	}
	return events[len(events)-1]
}

// readyFile is what --ready-file names once the node listens.
type readyFile struct {
	NodeID  string `json:"node_id"`
	UDP     string `json:"udp"`
	WS      string `json:"ws"`
	Metrics string `json:"metrics"`
}

// ready waits for the ready file.
func (p *process) ready(t testing.TB, path string) readyFile {
	t.Helper()
	var ready readyFile
	p.await(t, "ready file", func() bool {
		data, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		if err := json.Unmarshal(data, &ready); err != nil {
			t.Fatalf("%s: ready file holds %q: %v", p.name, data, err)
		}
		return true
	})
	return ready
}
