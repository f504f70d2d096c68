package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// The processes of send, listen, forward and expose run beside the node of
// their directory, and beside each other. Two processes can't be one node, so
// each is a node of its own with a random identity, and shows on every stream
// whose it is by a pass:
//
//	public key (32) ‖ signature (64)      of passDomain ‖ ID of the node that shows it
//
// The key is that of the directory's node. The session has proven the ID of the
// one that shows it, so a pass is of no use to anybody else.
const (
	passDomain = "sttnode pass v1"
	passSize   = stc.PublicKeySize + 64
)

// pass says that a node acts for another one.
type pass [passSize]byte

// newPass lets the node with the ID bearer act for the owner.
func newPass(owner *stc.Identity, bearer stc.Hash) (p pass) {
	key := owner.PublicKey()
	copy(p[copy(p[:], key[:]):], owner.Sign(passText(bearer)))
	return p
}

func passText(bearer stc.Hash) []byte { return append([]byte(passDomain), bearer[:]...) }

// errPass reports a pass that is not the bearer's.
var errPass = errors.New("the other side does not show for which node it acts")

// owner returns the node that the bearer acts for.
func (p *pass) owner(bearer stc.Hash) (stc.Hash, error) {
	key, err := stc.ParsePublicKey(p[:stc.PublicKeySize])
	if err != nil || !key.Verify(passText(bearer), p[stc.PublicKeySize:]) {
		return stc.Hash{}, errPass
	}
	return key.NodeID(), nil
}

// readPass reads the pass that the stream's peer shows, and returns for whom it
// acts.
func readPass(st *node.Stream) (stc.Hash, error) {
	var p pass
	if _, err := io.ReadFull(st, p[:]); err != nil {
		return stc.Hash{}, fmt.Errorf("pass: %w", err)
	}
	return p.owner(st.Session().PeerID())
}
