// Package swarm moves content between nodes: who has which chunk, which chunk
// next from whom, and the side that serves.
//
// Guarantees: every blob is hashed before it is stored, written or passed on, so
// a peer can delay and never deceive. A download ends with all of the content,
// or with an error that says what was missing; what it has stored by then is not
// fetched again. A peer that lies is dropped, one that stalls gets less to do,
// and neither holds up the others. What peers send is bounded before it is held.
//
// # Fetching
//
// A [Download] fetches one content, named by the hash of its root manifest,
// from all peers that it is given, at once. Its parts, in the order in which a
// chunk passes them:
//
//	frontier   which references of the manifests come next        walk.go       pure
//	probe      which of them the store already holds              probe.go      one goroutine
//	scheduler  which one next, from whom, how many at a time      scheduler.go  pure
//	conn       WANT out, BLOB in                                  conn.go       two goroutines a peer
//	verify     SHA3-256 of several blobs side by side             pipeline.go   a few goroutines
//	commit     Store.Submit, and beside it Output.WriteChunk      pipeline.go   one goroutine
//	settle     until that is durable; only then it counts         pipeline.go   one goroutine
//
// One goroutine, the owner, holds frontier and scheduler and everything that
// is counted; all others hand it events and get work from it. It never waits
// for a peer, a hash or the disk. Memory is bounded by the byte budget of the
// download, one blob a peer, and the window of references, at any content
// size: manifests are walked as they are needed and never held whole.
//
// # Serving
//
// A [Server] answers any number of streams from one store: fair between
// peers, with bounded queues and buffers, and a cache for chunks that several
// peers ask for. What a running Download has stored is served while the rest
// is still being fetched.
//
// A [Limiter] holds servers and downloads to rates that may change by a
// timetable.
//
// # The wire
//
// One stream per download and peer, opened by the one that fetches, carries
// messages of this form; all integers are big-endian:
//
//	 0       1                   4
//	+-------+-------------------+----------------------+
//	| type  |  body length (3)  |  body                |
//	+-------+-------------------+----------------------+
//
// From the fetching side:
//
//	0x01 OPEN       root (32)              first, and only once
//	0x02 WANT       request (4) hash (32)  send this blob; at most 1024 unanswered
//	0x03 CANCEL     request (4)            no longer wanted; a request that is not open is ignored
//	0x04 FOLLOW     request (4) hash (32)  send this manifest node, and behind it what lies on the way
//	                offset (8) bytes (4)   from there to an offset of the data below it: no more than so
//	                chunks (1)             many bytes and chunks, and 16 blobs
//
// From the serving side:
//
//	0x11 HAVE       kind (1) ranges        answers OPEN, and comes again when more has been verified
//	0x12 BLOB       request (4) bytes      answers WANT; 0 bytes to 1 MiB
//	0x13 MISSING    request (4)            answers WANT: the blob is not here
//	0x14 CANCELLED  request (4)            answers WANT: CANCEL came before the blob was on its way
//	0x15 CLOSE      reason (1)             last; the stream ends behind it
//
// Every WANT has exactly one answer, BLOB, MISSING or CANCELLED, normally in
// the order of the requests. The fetching side chooses request numbers and
// does not use one again before it is answered. It may ask for any blob: the
// manifest nodes of the content as well as its chunks. The serving side stops
// reading when 1024 requests are open, so a flood waits in the sender.
//
// FOLLOW saves the round trip that each level of a tree costs. Behind the BLOB
// of the node come, as BLOB under the request numbers that follow, in order, the
// blobs below it that hold bytes from offset on, depth first: each node before
// what is below it, and what has no bytes is left out. CANCELLED under the next
// number ends them: at the end of the data, before the blob that would be more
// than was allowed, and before one that is not here. The fetching side makes the
// same walk in the nodes as it verifies them, and so knows what each blob must
// be. The node itself counts neither as bytes nor as a blob; if it is not sent,
// its MISSING or CANCELLED is the only answer. The fetching side uses none of the
// 17 numbers behind that of a FOLLOW for anything else. A CANCEL does not stop
// what follows.
//
// HAVE of kind 1 says that everything below root is here and has no ranges.
// HAVE of kind 0 lists chunks by their ordinal, the position among all chunks
// of the content in the order of its manifests, in at most 2048 ascending
// ranges:
//
//	gap (v)  length - 1 (v)   { gap - 1 (v)  length - 1 (v) }
//
// (v) is the shortest form of the integers of RFC 9000 section 16. A gap
// counts the ordinals that are missing between two ranges (the first: before
// the first range), so that a set of ranges has one encoding. No ranges at all
// is "nothing yet". Ranges only add to what was announced before. A side that
// announces a chunk also holds the manifest nodes above it. More than 200 HAVE
// messages and 50 a second are a flood.
//
// Reasons of CLOSE: 1 busy, 2 nothing of this content here, 3 malformed
// message, 4 going away.
//
// A message that breaks these rules ends the stream.
package swarm
