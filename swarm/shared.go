package swarm

import (
	"context"
	"sync"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// sharedContent is a content that is only partly here: of a download that
// runs, or found by a survey of the store.
type sharedContent struct {
	have   *availability
	asked  func(peer stc.Hash) // told of each stream that opens; may be nil
	survey bool                // a survey fills have
	users  int                 // streams that follow it
	cancel context.CancelFunc
	done   sync.WaitGroup // the survey
}

// Share makes the server tell the peers what a running download has stored so
// far, and more as it comes. asked, if not nil, is called with each peer that
// opens a stream for this content, by the goroutine that serves it: who fetches
// the same will soon have some of it. stop ends that for streams that open
// afterwards; it is to be called when the download has ended, and may be called
// twice.
func (s *Server) Share(d *Download, asked func(peer stc.Hash)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A survey of the same content goes on for the streams that follow it.
	c := &sharedContent{have: &d.have, asked: asked}
	s.shared[d.Root()] = c
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.shared[d.Root()] == c {
			delete(s.shared, d.Root())
		}
	}
}

// follow finds out what of a content is here, for a peer. ok is false when that
// is nothing. The caller must call stop when the stream ends.
func (s *Server) follow(root, peer stc.Hash) (f *follower, stop func(), ok bool) {
	s.mu.Lock()
	c := s.shared[root]
	if c == nil {
		s.mu.Unlock()
		info, pinned, err := s.store.PinInfo(root)
		if err == nil && pinned && info.State == content.PinComplete {
			var all availability
			all.finish()
			f = all.follow()
			return f, f.stop, true
		}
		if here, err := s.store.Has(root); err != nil || !here {
			return nil, nil, false
		}
		s.mu.Lock()
		if c = s.shared[root]; c == nil {
			c = s.startSurvey(root)
		}
	}
	c.users++
	s.mu.Unlock()
	if c.asked != nil {
		c.asked(peer)
	}
	f = c.have.follow()
	return f, func() {
		f.stop()
		s.endUse(root, c)
	}, true
}

// endUse ends a survey that nobody follows any more, and waits for it.
func (s *Server) endUse(root stc.Hash, c *sharedContent) {
	s.mu.Lock()
	c.users--
	last := c.survey && c.users == 0
	if last && s.shared[root] == c {
		delete(s.shared, root)
	}
	s.mu.Unlock()
	if last {
		c.cancel()
		c.done.Wait()
	}
}

// startSurvey begins to look what of a content is here. The caller holds mu.
func (s *Server) startSurvey(root stc.Hash) *sharedContent {
	ctx, cancel := context.WithCancel(context.Background())
	c := &sharedContent{have: new(availability), survey: true, cancel: cancel}
	s.shared[root] = c
	c.done.Go(func() {
		if s.surveys.Acquire(ctx, 1) != nil {
			return
		}
		defer s.surveys.Release(1)
		if err := survey(ctx, s.store, root, c.have); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Debug("content can't be surveyed", "root", root, "err", err)
		}
	})
	return c
}

// survey walks what is here of a content and tells have.
func survey(ctx context.Context, store blobReader, root stc.Hash, have *availability) error {
	front := newFrontier(selection{})
	steps := []step{front.begin(root)}
	complete := true
	for len(steps) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		var here []span
		for _, st := range steps {
			if st.repeated {
				have.repeat(st.repeat())
				continue
			}
			p, err := probeOne(store, st)
			if err != nil {
				return err
			}
			switch {
			case !p.here:
				complete = false
				if p.node() {
					front.abandon(st)
				}
			case !p.node():
				here = append(here, p.place())
			default:
				if err := front.expand(st, p.read); err != nil {
					return err
				}
			}
		}
		have.add(here...)
		steps = front.take(steps[:0], probeBatch)
	}
	if complete {
		have.finish()
	}
	return nil
}
