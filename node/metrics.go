package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seigr/sttnode/dht"
)

// NewCollector returns the metrics of a node for a Prometheus registry. No
// label names a peer or a content, so their number is fixed. A node that does
// not run has no metrics but sttnode_up, which is 0.
func NewCollector(n *Node) prometheus.Collector { return &collector{n} }

type collector struct{ n *Node }

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range metrics {
		ch <- m.desc
	}
}

// Collect implements [prometheus.Collector]. All values are of one snapshot.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.n.Stats()
	up := s.State == StateStarted || s.State == StateRunning
	for _, m := range metrics {
		if !up && m.desc != upMetric.desc {
			continue
		}
		m.emit(&s, ch)
	}
}

// metric is one row of the table of metrics: a name and what it reads from a
// snapshot.
type metric struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	values func(s *Stats, emit func(v float64, labels ...string))
	// histograms is set in place of kind and values: the counts are those of
	// the classes that bounds are the upper bounds of, and one more.
	bounds     []float64
	histograms func(s *Stats, emit func(counts []uint64, sum float64, labels ...string))
}

// emit sends a row's metrics.
func (m *metric) emit(s *Stats, ch chan<- prometheus.Metric) {
	if m.histograms == nil {
		m.values(s, func(v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
		})
		return
	}
	m.histograms(s, func(counts []uint64, sum float64, labels ...string) {
		below := make(map[float64]uint64)
		var total uint64
		for i, n := range counts {
			if total += n; i < len(m.bounds) {
				below[m.bounds[i]] = total
			}
		}
		ch <- prometheus.MustNewConstHistogram(m.desc, total, sum, below, labels...)
	})
}

func gauge(name, help string, value func(s *Stats) float64) metric {
	return metric{
		desc:   prometheus.NewDesc("sttnode_"+name, help, nil, nil),
		kind:   prometheus.GaugeValue,
		values: func(s *Stats, emit func(float64, ...string)) { emit(value(s)) },
	}
}

func counter[N uint64 | float64](name, help string, value func(s *Stats) N) metric {
	m := gauge(name, help, func(s *Stats) float64 { return float64(value(s)) })
	m.kind = prometheus.CounterValue
	return m
}

func labelled(kind prometheus.ValueType, name, help string, labels []string, values func(s *Stats, emit func(v float64, labels ...string))) metric {
	return metric{desc: prometheus.NewDesc("sttnode_"+name, help, labels, nil), kind: kind, values: values}
}

func histogram(name, help string, labels []string, bounds []float64, values func(s *Stats, emit func(counts []uint64, sum float64, labels ...string))) metric {
	return metric{desc: prometheus.NewDesc("sttnode_"+name, help, labels, nil), bounds: bounds, histograms: values}
}

// durationBounds are the upper bounds in seconds of how long calls take.
func durationBounds() (seconds []float64) {
	for _, d := range dht.DurationBounds() {
		seconds = append(seconds, d.Seconds())
	}
	return seconds
}

// hopBounds are the upper bounds of the hops of lookups; few have more than 5.
func hopBounds() []float64 { return []float64{0, 1, 2, 3, 4, 5} }

var upMetric = gauge("up", "1 while the node runs.", func(s *Stats) float64 {
	if s.State == StateStarted || s.State == StateRunning {
		return 1
	}
	return 0
})

// metrics is the table of all metrics.
var metrics = []metric{
	upMetric,
	gauge("joined", "1 once the node has joined the network, or has nobody to join.", func(s *Stats) float64 {
		if s.State == StateRunning {
			return 1
		}
		return 0
	}),

	// Sessions.
	gauge("peers_connected", "Peers with a session.", func(s *Stats) float64 { return float64(s.Peers.Connected) }),
	counter("dials_total", "Sessions dialled.", func(s *Stats) uint64 { return s.Peers.Dials }),
	counter("dial_failures_total", "Dials that failed.", func(s *Stats) uint64 { return s.Peers.DialFailures }),
	gauge("sessions", "Sessions that are open.", func(s *Stats) float64 { return float64(s.Sessions.Sessions) }),
	gauge("session_streams", "Streams that are open, in all sessions.", func(s *Stats) float64 { return float64(s.Sessions.Streams) }),
	gauge("session_memory_bytes", "Memory lent to peers for what nobody has read yet.", func(s *Stats) float64 { return float64(s.Sessions.Memory) }),
	counter("session_streams_refused_total", "Streams refused for the limit of all sessions.", func(s *Stats) uint64 { return s.Sessions.StreamsRefused }),
	gauge("handshakes_half_open", "Handshakes that others have begun and not finished.", func(s *Stats) float64 { return float64(s.Sessions.HalfOpen) }),
	labelled(prometheus.CounterValue, "handshakes_total", "Handshakes that have ended, of both sides.", []string{"result"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.Sessions.Handshakes), "completed")
			emit(float64(s.Sessions.HandshakesFailed), "failed")
			emit(float64(s.Sessions.HandshakesRefused), "refused")
		}),
	labelled(prometheus.CounterValue, "session_bytes_total", "Bytes of frames of sessions.", []string{"direction"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.Sessions.BytesSent), "sent")
			emit(float64(s.Sessions.BytesReceived), "received")
		}),
	labelled(prometheus.CounterValue, "session_frames_total", "Frames of sessions.", []string{"direction"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.Sessions.MessagesSent), "sent")
			emit(float64(s.Sessions.MessagesReceived), "received")
		}),
	counter("session_frames_lost_total", "Frames that were declared lost and sent again.", func(s *Stats) uint64 { return s.Sessions.PacketsLost }),
	counter("session_frames_forged_total", "Frames that did not authenticate.", func(s *Stats) uint64 { return s.Sessions.Forged }),
	counter("session_datagrams_stray_total", "Batches of datagrams of no session.", func(s *Stats) uint64 { return s.Sessions.Stray }),
	counter("session_key_rotations_total", "Key rotations, of both directions.", func(s *Stats) uint64 { return s.Sessions.KeyRotations }),

	// Application.
	gauge("application_handlers", "Streams of the application with a running handler.", func(s *Stats) float64 { return float64(s.Application.Handlers) }),
	counter("application_handler_panics_total", "Handlers of streams and frames that have panicked.", func(s *Stats) uint64 { return s.Application.HandlerPanics }),
	counter("application_unknown_streams_total", "Streams that peers opened for a protocol without a handler.", func(s *Stats) uint64 { return s.Application.UnknownStreams }),
	labelled(prometheus.CounterValue, "application_frames_total", "Frames of the application's types that came, by whether there was a handler.", []string{"handler"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.Application.FramesHandled), "yes")
			emit(float64(s.Application.UnknownFrames), "none")
		}),
	labelled(prometheus.CounterValue, "application_packets_total", "Packets of the application.", []string{"direction"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.Application.PacketsSent), "sent")
			emit(float64(s.Application.PacketsReceived), "received")
		}),

	// DHT.
	labelled(prometheus.GaugeValue, "dht_nodes", "Nodes in the routing table.", []string{"state"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.DHT.Table.Good), "good")
			emit(float64(s.DHT.Table.Questionable), "questionable")
			emit(float64(s.DHT.Table.Bad), "bad")
		}),
	gauge("dht_network_nodes", "Nodes that the network is estimated to have.", func(s *Stats) float64 { return float64(s.DHT.Network) }),
	gauge("dht_candidates", "Nodes known beyond the routing table, to take the place of those that go.", func(s *Stats) float64 { return float64(s.DHT.Table.Candidates) }),
	labelled(prometheus.GaugeValue, "dht_buckets", "Buckets of the routing table that hold a node, by whether there is room in them.", []string{"fill"},
		func(s *Stats, emit func(float64, ...string)) {
			full := 0
			for _, b := range s.DHT.Table.Buckets {
				if b.Entries >= b.Width {
					full++
				}
			}
			emit(float64(full), "full")
			emit(float64(len(s.DHT.Table.Buckets)-full), "room")
		}),
	histogram("dht_call_seconds", "How long answers to calls took whose request went out once.", []string{"method"}, durationBounds(),
		func(s *Stats, emit func([]uint64, float64, ...string)) {
			for m := range s.DHT.RPC {
				r := &s.DHT.RPC[m]
				emit(r.Durations[:], r.DurationSum.Seconds(), dht.Method(m).String())
			}
		}),
	histogram("dht_lookup_hops", "Longest chains of nodes in lookups that have ended, each told of by the one before.", []string{"purpose"}, hopBounds(),
		func(s *Stats, emit func([]uint64, float64, ...string)) {
			for p := range s.DHT.Lookups {
				hops, sum := s.DHT.Lookups[p].Hops, 0
				counts := make([]uint64, len(hopBounds())+1)
				for i, n := range hops {
					counts[min(i, len(counts)-1)] += n
					sum += i * int(n)
				}
				emit(counts, float64(sum), dht.Purpose(p).String())
			}
		}),
	labelled(prometheus.CounterValue, "dht_lookup_seconds_total", "Duration of lookups that have ended, all together.", []string{"purpose"},
		func(s *Stats, emit func(float64, ...string)) {
			for p := range s.DHT.Lookups {
				emit(s.DHT.Lookups[p].Duration.Seconds(), dht.Purpose(p).String())
			}
		}),
	gauge("dht_signed_records", "Signed records held for others, own ones included.", func(s *Stats) float64 { return float64(s.DHT.SignedRecords) }),
	gauge("dht_names", "Names of this node that it keeps published.", func(s *Stats) float64 { return float64(s.DHT.KeptRecords) }),
	counter("dht_bad_records_total", "Signed records in answers that were not what they had to be.", func(s *Stats) uint64 { return s.DHT.BadRecords }),
	gauge("dht_record_keys", "Contents that provider records are held of.", func(s *Stats) float64 { return float64(s.DHT.RecordKeys) }),
	gauge("dht_records", "Provider records held for others.", func(s *Stats) float64 { return float64(s.DHT.Records) }),
	gauge("dht_provided", "Contents that this node provides.", func(s *Stats) float64 { return float64(s.DHT.Provided) }),
	gauge("dht_lookups_active", "Lookups under way.", func(s *Stats) float64 { return float64(s.DHT.LookupsActive) }),
	labelled(prometheus.CounterValue, "dht_lookups_total", "Lookups that have ended.", []string{"purpose", "result"},
		func(s *Stats, emit func(float64, ...string)) {
			for p := range s.DHT.Lookups {
				l, name := &s.DHT.Lookups[p], dht.Purpose(p).String()
				emit(float64(l.Found), name, "found")
				emit(float64(l.Empty), name, "empty")
				emit(float64(l.NoAnswer), name, "no_answer")
				emit(float64(l.Cancelled), name, "cancelled")
			}
		}),
	labelled(prometheus.CounterValue, "dht_calls_total", "Calls to other nodes.", []string{"method", "result"},
		func(s *Stats, emit func(float64, ...string)) {
			for m := range s.DHT.RPC {
				r, name := &s.DHT.RPC[m], dht.Method(m).String()
				emit(float64(r.Answered), name, "answered")
				emit(float64(r.Failed), name, "failed")
			}
		}),
	labelled(prometheus.CounterValue, "dht_requests_total", "Requests of other nodes.", []string{"method", "result"},
		func(s *Stats, emit func(float64, ...string)) {
			for m := range s.DHT.RPC {
				r, name := &s.DHT.RPC[m], dht.Method(m).String()
				emit(float64(r.Served), name, "served")
				emit(float64(r.Refused), name, "challenged")
			}
		}),
	labelled(prometheus.CounterValue, "dht_datagrams_dropped_total", "Datagrams that were not taken.", []string{"reason"},
		func(s *Stats, emit func(float64, ...string)) {
			for d, n := range s.DHT.Dropped {
				emit(float64(n), dht.Drop(d).String())
			}
		}),
	labelled(prometheus.CounterValue, "dht_bytes_total", "Bytes of DHT datagrams.", []string{"direction"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.DHT.BytesOut), "sent")
			emit(float64(s.DHT.BytesIn), "received")
		}),
	labelled(prometheus.CounterValue, "dht_publishes_total", "Publishes of contents that this node provides.", []string{"result"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.DHT.Published), "stored")
			emit(float64(s.DHT.PublishFail), "failed")
		}),

	labelled(prometheus.CounterValue, "lan_beacons_total", "Beacons on the local network.", []string{"what"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.LAN.Sent), "sent")
			emit(float64(s.LAN.Heard), "heard")
			emit(float64(s.LAN.Refused), "refused")
		}),
	counter("lan_nodes_met_total", "Nodes that were found on the local network.", func(s *Stats) uint64 { return s.LAN.Met }),

	// Store.
	gauge("store_blobs", "Blobs in the store.", func(s *Stats) float64 { return float64(s.Store.Blobs) }),
	gauge("store_bytes", "Bytes of the blobs in the store.", func(s *Stats) float64 { return float64(s.Store.Bytes) }),
	gauge("store_in_place_bytes", "Bytes of the blobs that lie in the user's files.", func(s *Stats) float64 { return float64(s.Store.InPlaceBytes) }),
	counter("store_files_changed_total", "Files served in place that were found to have changed.", func(s *Stats) uint64 { return s.FilesChanged }),
	gauge("store_segments", "Segment files of the store.", func(s *Stats) float64 { return float64(s.Store.Segments) }),
	gauge("store_dead_bytes", "Bytes in segment files that are deleted.", func(s *Stats) float64 { return float64(s.Store.DeadBytes) }),

	// Transfers.
	gauge("fetches_active", "Fetches under way.", func(s *Stats) float64 { return float64(s.Fetching.Active) }),
	labelled(prometheus.CounterValue, "fetches_total", "Fetches that have ended.", []string{"result"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.Fetching.Completed), "completed")
			emit(float64(s.Fetching.Failed), "failed")
		}),
	labelled(prometheus.CounterValue, "fetched_bytes_total", "Bytes of blobs that came from peers.", []string{"kind"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.Fetching.BytesFetched), "verified")
			emit(float64(s.Fetching.DuplicateBytes), "duplicate")
			emit(float64(s.Fetching.BadBytes), "bad")
			emit(float64(s.Fetching.UnwantedBytes), "unwanted")
			emit(float64(s.Fetching.PartialBytes), "partial")
		}),
	counter("fetched_late_bytes_total", "Of the duplicate bytes, those that answered requests which were cancelled or overdue.", func(s *Stats) uint64 { return s.Fetching.LateBytes }),
	gauge("serving_streams", "Streams on which peers fetch from this node.", func(s *Stats) float64 { return float64(s.Serving.Streams) }),
	gauge("serving_peers", "Peers that fetch from this node.", func(s *Stats) float64 { return float64(s.Serving.Peers) }),
	labelled(prometheus.GaugeValue, "serving_streams_waiting", "Streams on which peers fetch from this node, by what each waits for.", []string{"for"},
		func(s *Stats, emit func(float64, ...string)) {
			for _, l := range []Limit{LimitPeer, LimitNetwork, LimitRate, LimitDisk, LimitMemory} {
				emit(float64(s.Serving.Waiting[l]), l.String())
			}
		}),
	counter("served_blobs_total", "Blobs sent to peers.", func(s *Stats) uint64 { return s.Serving.Blobs }),
	counter("served_bytes_total", "Bytes of blobs sent to peers.", func(s *Stats) uint64 { return s.Serving.Bytes }),
	counter("served_missing_total", "Requests of peers for blobs that are not here.", func(s *Stats) uint64 { return s.Serving.Missing }),
	counter("served_from_cache_total", "Blobs sent to peers from memory.", func(s *Stats) uint64 { return s.Serving.CacheHits }),
	counter("serving_refused_total", "Streams of peers for which there was no place.", func(s *Stats) uint64 { return s.Serving.Refused }),
	counter("serving_ended_total", "Streams of peers that had to make room for others.", func(s *Stats) uint64 { return s.Serving.Ended }),
	counter("served_parked_total", "Batches of which slow streams had to give the memory back to others.", func(s *Stats) uint64 { return s.Serving.Parked }),
	counter("served_limited_seconds_total", "Time that streams have waited for the limits of the rate before they sent something, all together.",
		func(s *Stats) float64 { return s.Serving.Limited.Seconds() }),
	labelled(prometheus.GaugeValue, "limit_bytes_per_second", "Limits of the rate of transfers that hold now; 0 is none.", []string{"direction"},
		func(s *Stats, emit func(float64, ...string)) {
			emit(float64(s.Rates.Up), "up")
			emit(float64(s.Rates.Down), "down")
			emit(float64(s.Rates.Peer), "peer")
		}),
	counter("fetch_resumed_bytes_total", "Bytes that were here already when a fetch began.", func(s *Stats) uint64 { return s.Fetching.BytesResumed }),
	counter("fetch_providers_found_total", "Addresses of providers that the DHT has named.", func(s *Stats) uint64 { return s.Fetching.ProvidersFound }),
	counter("events_missed_total", "Events that subscribers did not read in time.", func(s *Stats) uint64 { return s.Events.Dropped }),
	counter("event_handler_panics_total", "Handlers of events that have panicked.", func(s *Stats) uint64 { return s.Events.Panics }),
}
