// Package dht finds nodes and providers of content: a Kademlia distributed
// hash table over 256-bit node IDs (Maymounkov and Mazières, 2002), in sealed
// datagrams between nodes that share a seed.
//
//	d, err := dht.New(dht.Config{Identity: id, Keyring: keyring, Send: send})
//	d.HandleDatagram(b, from)                  // what arrives
//	err = d.AddContact(c)                      // somebody to begin with
//	err = d.Bootstrap(ctx)
//	stored, err := d.Provide(ctx, key)         // until Unprovide or Close
//	for c := range d.FindProviders(ctx, key).Providers() { … }
//
// Guarantees: every message opens only for a holder of the shared seed and proves
// its sender's ID; anybody else costs one AEAD check. A lookup yields providers as
// it hears of them and ends when the closest nodes have answered or failed. Nobody
// is made to send more than was sent to him, nor to keep a record, in the name of
// an address that is not the asker's. Tables, records, calls and caches are
// bounded, by network and by node as well. That a node is a provider is its own
// claim: whoever fetches finds out.
//
// # How it is built
//
//	DHT        one goroutine, timer and inbox        dht.go, api.go
//	└ machine  a node as a pure state machine        machine.go, serve.go, upkeep.go
//	  ├ search     runs a lookup                     search.go
//	  │ └ lookup   whom to ask next                  lookup.go
//	  ├ publisher  what we provide                   publisher.go, publish.go, sweep.go
//	  ├ keeper     signed records that we publish    keeper.go
//	  ├ calls      requests and their answers        calls.go
//	  ├ table      the nodes we know                 table.go, table_query.go, tablefile.go
//	  ├ peers      who was heard of lately           peers.go
//	  ├ estimate   how large and lasting all is      estimate.go
//	  ├ records    what others provide               records.go
//	  ├ signed     signed records for others         signedstore.go, signed.go
//	  ├ errands    searches for those behind a link  errand.go
//	  ├ reach      whether others can call us        reach.go
//	  └ gate, cookies, codec                         gate.go, cookie.go, message.go
//
// Nothing below DHT knows a goroutine, a clock or a socket: time and datagrams
// go in, datagrams and results come out, and chance comes from one seeded
// generator. So what runs in production also runs by the thousand in virtual
// time.
//
// # On the wire
//
// A datagram is at most 1,200 bytes: a frame of type DHT whose session ID,
// epoch, stream and sequence number are zero, and whose payload is a sealed
// datagram of package stc with the header as additional data. It proves the
// sender's key, and with it the sender's ID. Inside is one message; numbers
// are big-endian:
//
//	 0         1      2       3                11
//	+---------+------+-------+----------------+-----------+-----------+------
//	| version | kind | flags | transaction(8) | proof(16) | grant(16) | body
//	+---------+------+-------+----------------+-----------+-----------+------
//
// version is 1. The transaction is chosen by who asks and repeated in the
// answer. Flags: 0x01 the sender is a client, which serves nothing and belongs
// in no table; 0x02 proof is there; 0x04 grant is there; 0x08, in an answer of
// FIND_PROVIDERS, the sender itself provides the key. Everything else is
// refused: one message has one encoding.
//
//	0x01 PING             nothing
//	0x02 FIND_NODE        target(32)
//	0x03 FIND_PROVIDERS   key(32)
//	0x04 ADD_PROVIDER     ttl in seconds(4) WebSocket port(2) count(1) count × key(32)       ttl 0 withdraws; count ≤ 32
//
//	0x05 DIAL_BACK        nothing
//	0x06 DIAL             node
//
//	0x07 GET_RECORD       name(32) above(8)                  only a record with a sequence number higher than above
//	0x08 PUT_RECORD       ttl in seconds(4) record
//
//	0x80 CHALLENGE        nothing
//	0x81 PING             nothing
//	0x82 FIND_NODE        count(1) count × node
//	0x83 FIND_PROVIDERS   count(1) count × provider, count(1) count × node
//	0x84 ADD_PROVIDER     bits(4)                                          bit i: key i is done
//	0x85 DIAL_BACK        count(1) count × node                            count ≤ 2
//	0x86 DIAL             nothing
//	0x87 GET_RECORD       state(1) record, unless state is 0, count(1) count × node
//	0x88 PUT_RECORD       code(1)
//
// A node is family(1), 4 or 6; address (4 or 16); port(2); public key(32). A
// provider is a node and a WebSocket port(2), 0 for none; its address is the one
// that its ADD_PROVIDER came from. If that came over a link, the port is 0 and
// the WebSocket port is not. A record is public key(32) sequence number(8), not
// 0; length(2), value, ≤ 900; signature(64). The state of an answer is 0 for no
// record, 1, or 2 if the record leaves room for fewer than 8 nodes and more are
// known. Codes: 0 held, 1 a newer one is here, 2 no room, 3 not valid. Behind the body of a request any number of zero bytes may follow.
//
// # Proof of address
//
// Anybody can write a false sender address on a datagram. So whoever asks is
// taken to be at its address only if it shows a cookie that was granted to its
// key there: grant in the messages of one side comes back as proof in those of
// the other. Who makes cookies keeps nothing about them (see cookies). Before
// that, what is sent to an address because of one request is never longer than
// the request, and no record is stored: a request padded to 1,200 bytes is
// answered with a list cut to that, any other with CHALLENGE, which grants a
// cookie, and is then repeated. The first request to a node is padded, so
// that getting to know it costs no round trip.
//
// # Clients
//
// Who cannot be called belongs in no table. A node is taken for a client until
// somebody has called it that it had not sent anything to, for IPv4 and IPv6
// each; DIAL_BACK asks for that. See reach.
//
// # Links
//
// Where datagrams do not get through, the same frames travel over a link: a
// connection between two nodes that belongs to whoever runs the DHT, see
// [LinkAddr]. A link has proven both ends' IDs and cannot be somebody else's, so
// it needs no cookie. Who asks over one is not taken into the table: nobody else
// could call it there. It may reach nobody but us, so we search for providers on
// its behalf.
package dht
