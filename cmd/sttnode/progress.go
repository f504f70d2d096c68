package main

import (
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"
)

const barRefresh = 150 * time.Millisecond

// bar shows a person how far something is: bytes, rate, time left, and a text
// such as the number of peers. A nil *bar shows nothing.
type bar struct {
	bars *mpb.Progress
	bar  *mpb.Bar

	mu    sync.Mutex // guards what follows
	what  string
	meter meter
	done  int64
	total int64
	extra string
}

// startBar begins a bar on standard error if that is a terminal and nobody
// asked for silence. It must be finished.
func (a *app) startBar(what string) *bar {
	return a.show(what, mpb.BarStyle().Rbound("|").Lbound("|").Filler("█").Tip("█").Padding(" "), decor.Percentage(decor.WC{W: 5}))
}

// startLine is startBar for what has no end: it shows the text alone.
func (a *app) startLine(what string) *bar { return a.show(what, mpb.NopStyle()) }

func (a *app) show(what string, style mpb.BarFillerBuilder, before ...decor.Decorator) *bar {
	f, ok := a.stderr.(*os.File)
	if !ok || a.options.quiet || !cwriter.IsTerminal(int(f.Fd())) {
		return nil
	}
	b := &bar{what: what}
	name := decor.Any(func(decor.Statistics) string { return b.name() })
	b.bars = mpb.New(mpb.WithOutput(f), mpb.WithWidth(80), mpb.WithRefreshRate(barRefresh), mpb.WithAutoRefresh())
	b.bar = b.bars.New(0, style, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(append([]decor.Decorator{name}, before...)...),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.text() })))
	return b
}

// set says how much is done of how much, 0 if unknown, and the text to add.
func (b *bar) set(done, total int64, extra string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	if done < b.done {
		b.meter = meter{} // something else has begun
	}
	b.meter.add(time.Now(), done)
	b.done, b.total, b.extra = done, total, extra
	b.mu.Unlock()
	b.bar.SetTotal(total, false)
	b.bar.SetCurrent(done)
}

// begin says that something else is done from now on.
func (b *bar) begin(what string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.what = what
}

func (b *bar) name() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.what + " "
}

// text is what stands behind the bar.
func (b *bar) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var parts []string
	if b.total > 0 {
		parts = append(parts, "of "+humanBytes(b.total))
	}
	if rate := b.meter.rate(); rate > 0 {
		parts = append(parts, humanBytes(rate)+"/s")
		if left, ok := b.meter.left(b.total); ok && b.total > 0 {
			parts = append(parts, humanDuration(left)+" left")
		}
	}
	if b.extra != "" {
		parts = append(parts, b.extra)
	}
	return " " + strings.Join(parts, ", ")
}

// finish takes the bar off the terminal and waits for that.
func (b *bar) finish() {
	if b == nil {
		return
	}
	b.bar.Abort(true)
	b.bars.Wait()
}
