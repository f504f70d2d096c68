// Package node is a node of a private content-distribution network, for
// programs to embed and for the command line to run. It is the only package
// that knows all the others, and does little else than to wire them.
//
//	n, err := node.New(node.Config{Identity: id, Keyring: keyring, Dir: dir, Bootstrap: addrs})
//	err = n.Start(ctx)
//	seeded, err := n.Seed(ctx, "film.mkv", node.SeedOptions{})      // import and announce
//	fetched, err := n.Fetch(ctx, root, node.FetchOptions{Output: "film.mkv"})
//	err = n.Stop(ctx)
//
// # Parts
//
//	               Node
//	   ┌───────────┬─┴────────┬─────────────┐
//	join loops    pool      fetches      swarm.Server        who does what
//	   │           │          │             │
//	   └────► session.Endpoint ◄────────────┘                sessions, streams
//	               │     ▲
//	               ▼     │ DHT frames, both ways
//	        transport.Conn   dht.DHT        content.Store    one socket, one table, one store
//
// One UDP socket carries sessions and DHT datagrams. Sessions may also run over
// WebSocket, and DHT datagrams over a stream of those. The pool keeps one session
// in use for each peer and opens streams on it; each stream begins with the
// name of its protocol. A fetch gives the swarm every provider that the DHT
// names and every peer that is connected already.
//
// # Goroutines
//
// Node owns the accept loop, one loop for each bootstrap address and the one
// that saves the routing table. The pool owns its dials, an accept loop for each
// session, a goroutine for each stream that a peer opens, and the links of the
// DHT. A fetch owns its search. [Node.Stop] ends and waits for all of them.
package node
