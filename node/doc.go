// Package node is a node of a private content-distribution network, for
// programs to embed and for the command line to run. It is the only package
// that knows all the others, and does little else than to wire them.
//
//	n, err := node.New(node.Config{Identity: id, Keyring: keyring, Dir: dir, Bootstrap: addrs})
//	err = n.Start(ctx)
//	seeded, err := n.Seed(ctx, "film.mkv", node.ImportOptions{})      // import and announce
//	fetched, err := n.Fetch(ctx, root, node.FetchOptions{Output: "film.mkv"})
//	err = n.Stop(ctx)
//
// It is as well a node for programs that only want to move bytes. They need no
// store, so they leave Dir empty:
//
//	s, err := n.Connect(ctx, "192.0.2.1:4700")      // or a node ID, or ws://…
//	err = n.Send(ctx, []byte("hello"), s.ID())      // to some sessions; SendAll: to all
//	for p, err := range n.Receive(ctx) { … }        // from all sessions
//	err = n.Handle("chat/1", func(ctx context.Context, st *session.Stream) { … })
//	st, err := n.OpenStream(ctx, s, "chat/1")       // is handled so at the other end
//	err = n.HandleFrame(0x80, func(ctx context.Context, f session.UserFrame) { … })
//	err = s.SendFrame(ctx, 0x80, 0, data)           // is handled so at the other end
//	node.EventPeerConnected.On(n.Events(), func(ctx context.Context, e node.Event) { … })
//
// Guarantees: a session's peer holds the shared seed and has proven its node ID;
// packets and streams arrive whole, in order and once, or their end is an error;
// what nobody reads holds up its sender and takes bounded memory; a handler
// that panics costs its stream. Everything ends with Stop, which waits for it.
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
// session, a goroutine for each stream that a peer opens (two if it carries
// packets), which is where an application's [Handler] runs, and the links of the
// DHT. A fetch owns its search. Handlers of events have one each, owned by their
// emitter. [Node.Stop] ends and waits for all of them.
package node
