package stc_test

import (
	"bytes"
	"fmt"

	"github.com/seigr/sttnode/stc"
)

// Two nodes that hold the same shared seed make themselves known to each other and exchange a packet.
func Example() {
	alice, err := stc.NewIdentity(bytes.Repeat([]byte("a"), 32)) // seeds come from a random source
	if err != nil {
		panic(err)
	}
	bob, err := stc.NewIdentity(bytes.Repeat([]byte("b"), 32))
	if err != nil {
		panic(err)
	}
	keys, err := stc.NewKeyring(bytes.Repeat([]byte("s"), 32))
	if err != nil {
		panic(err)
	}

	initiator, _ := stc.NewInitiator(alice, keys, bob.NodeID(), nil)
	responder, _ := stc.NewResponder(bob, keys, nil)
	from, to := initiator, responder
	for !responder.Complete() {
		msg, err := from.WriteMessage(nil, nil)
		if err != nil {
			panic(err)
		}
		if _, err := to.ReadMessage(nil, msg); err != nil {
			panic(err)
		}
		from, to = to, from
	}
	fmt.Println("bob talks to alice:", responder.PeerKey() == alice.PublicKey())

	send, _, _ := initiator.Secrets()
	receive, _, _ := responder.Secrets()
	sealing, _ := send.PacketKey(stc.SuiteAES256GCM, 0)
	opening, _ := receive.PacketKey(stc.SuiteAES256GCM, 0)
	packet := sealing.Seal(nil, []byte("hello"), []byte("header"), 0)
	plain, err := opening.Open(nil, packet, []byte("header"), 0)
	fmt.Printf("%s %v\n", plain, err)
	// Output:
	// bob talks to alice: true
	// hello <nil>
}
