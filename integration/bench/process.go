package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// process is one end of a subject.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader

	limit *time.Timer // ends it
}

// start runs this program in a role, inside a network namespace if one is
// named.
func start(namespace string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if namespace != "" {
		args = append([]string{"netns", "exec", namespace, self}, args...)
		self = "ip"
	}
	return startCommand(self, args...)
}

// startCommand runs a program that takes orders on its stdin and ends with it.
func startCommand(name string, args ...string) (*process, error) {
	var err error
	p := &process{cmd: exec.Command(name, args...)}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReaderSize(out, 1<<16)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.limit = time.AfterFunc(processLimit, func() {
		fmt.Fprintf(os.Stderr, "bench: %v hangs; ended\n", args)
		_ = p.cmd.Process.Kill()
	})
	return p, nil
}

// processLimit is how long a process may live: a subject that hangs must not
// hang the benchmark.
const processLimit = 5 * time.Minute

func (p *process) line() (string, error) {
	s, err := p.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("process %v: %w", p.cmd.Args[1:], err)
	}
	return strings.TrimSpace(s), nil
}

func (p *process) say(s string) error {
	_, err := io.WriteString(p.in, s+"\n")
	return err
}

// ask sends a question and decodes the answer.
func (p *process) ask(question string, answer any) error {
	if err := p.say(question); err != nil {
		return err
	}
	return p.result(answer)
}

// result decodes the line that comes next.
func (p *process) result(answer any) error {
	s, err := p.line()
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(s), answer)
}

// stop ends the process by the end of its input, by force if need be.
func (p *process) stop() {
	p.limit.Stop()
	_ = p.in.Close()
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(3 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}

// measured is one run of a subject.
type measured struct {
	client        result
	before, after usage // of the server
}

// pair runs a task between two new processes of a subject. question is what
// the server is asked before and behind the measured part.
func pair(name, task, question string) (measured, error) {
	var m measured
	server, err := start("", roleServer, name, "127.0.0.1:0")
	if err != nil {
		return m, err
	}
	defer server.stop()
	addr, err := server.line()
	if err != nil {
		return m, err
	}
	client, err := start("", roleClient, name, task, addr)
	if err != nil {
		return m, err
	}
	defer client.stop()
	for _, u := range []*usage{&m.before, &m.after} {
		if err := awaitMark(client); err != nil {
			return m, err
		}
		if err := server.ask(question, u); err != nil {
			return m, err
		}
		if err := client.say("go"); err != nil {
			return m, err
		}
	}
	return m, client.result(&m.client)
}

func awaitMark(p *process) error {
	s, err := p.line()
	if err == nil && s != "mark" {
		err = fmt.Errorf("process %v said %q", p.cmd.Args[1:], s)
	}
	return err
}
