package main

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/node"
)

// limitOptions are the settings of rates.
type limitOptions struct {
	up, down, peer string
	periods        []string
}

func (o *limitOptions) define(fs *pflag.FlagSet) {
	fs.StringVar(&o.up, "limit-up", "", "send no more than `RATE` to all peers together, such as 500k or 10M, in bytes a second (default: no limit)")
	fs.StringVar(&o.down, "limit-down", "", "fetch no more than `RATE` (default: no limit)")
	fs.StringVar(&o.peer, "limit-peer", "", "send no more than `RATE` to each peer (default: no limit)")
	fs.StringArrayVar(&o.periods, "limit", nil, "at certain times other rates, `'[DAYS] [TIMES] RATES'`, such as 'Mo-Fr 08:00-18:00 2M'; may be repeated, see help settings")
}

// read checks the settings.
func (o *limitOptions) read() (limits node.Limits, err error) {
	for _, f := range []struct {
		flag, text string
		to         *node.Rate
	}{{"--limit-up", o.up, &limits.Up}, {"--limit-down", o.down, &limits.Down}, {"--limit-peer", o.peer, &limits.Peer}} {
		if f.text == "" {
			continue
		}
		if *f.to, err = node.ParseRate(f.text); err != nil {
			return limits, usagef("%s: %v", f.flag, err)
		}
	}
	for _, line := range o.periods {
		for text := range strings.SplitSeq(line, ";") {
			p, err := node.ParsePeriod(text)
			if err != nil {
				return limits, usagef("--limit: %v", err)
			}
			limits.Periods = append(limits.Periods, p)
		}
	}
	return limits, nil
}

// reloadLimits reads the settings again and makes their limits hold. If
// something is wrong with them, all stays as it is.
func (r *runningNode) reloadLimits() {
	o, err := r.app.reread()
	if err == nil {
		var limits node.Limits
		if limits, err = o.limits.read(); err == nil {
			r.SetLimits(limits)
			rates := r.Rates()
			r.app.note("The limits were read again: now %v up, %v down, %v to each peer.", rates.Up, rates.Down, rates.Peer)
			return
		}
	}
	r.app.warn("the limits stay as they are: %s", errorText(err))
}
