package session

import "time"

// granularity is kGranularity of RFC 9002 section 6.1.2.
const granularity = time.Millisecond

// initialRTT is kInitialRTT of RFC 9002 section 6.2.2, for a path of which
// not even the handshake has told anything.
const initialRTT = 333 * time.Millisecond

// rtt estimates a path's round-trip time, as RFC 9002 section 5.
type rtt struct {
	latest, smoothed, variation, least time.Duration
	sampled                            bool
}

// update takes one sample. delay is what the peer says it waited before it
// acknowledged. Unlike RFC 9002 section 5.3 it is not limited to the maximum
// that the peer promised, nor ignored for the first sample: an acknowledgement
// that repeats a lost one is truly late, and without its delay a bad path's
// estimate would only grow. A receiver of much data, which rarely gets a
// sample, would be stuck with a first one of a second. The least sample bounds
// what a liar can gain later.
func (r *rtt) update(sample, delay time.Duration) {
	sample = max(sample, time.Microsecond)
	r.latest = sample
	if !r.sampled {
		r.sampled = true
		if delay < sample {
			sample -= delay
		}
		r.least, r.smoothed, r.variation = sample, sample, sample/2
		return
	}
	r.least = min(r.least, sample)
	if sample-delay >= r.least {
		sample -= delay
	}
	r.variation = (3*r.variation + (r.smoothed - sample).Abs()) / 4
	r.smoothed = (7*r.smoothed + sample) / 8
}

// srtt returns the smoothed estimate, or the initial one before any sample.
func (r *rtt) srtt() time.Duration {
	if !r.sampled {
		return initialRTT
	}
	return r.smoothed
}

// pto returns the probe timeout without back-off, RFC 9002 section 6.2.1.
func (r *rtt) pto(maxAckDelay time.Duration) time.Duration {
	v := r.variation
	if !r.sampled {
		v = initialRTT / 2
	}
	return r.srtt() + max(4*v, granularity) + maxAckDelay
}

// lossDelay returns the time threshold of RFC 9002 section 6.1.2.
func (r *rtt) lossDelay() time.Duration {
	return max(max(r.latest, r.srtt())*9/8, granularity)
}
