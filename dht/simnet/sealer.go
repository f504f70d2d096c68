package simnet

import "github.com/seigr/sttnode/stc"

// Sealer stands for stc.DatagramSealer where nobody eavesdrops: what it makes
// is as long, names the sender and the recipient, and costs next to nothing.
type Sealer struct{ key stc.PublicKey }

// NewSealer returns the sealer of the node that owns key.
func NewSealer(key stc.PublicKey) Sealer { return Sealer{key} }

var padding [stc.DatagramOverhead - 2*stc.PublicKeySize]byte

// Seal appends message to dst, in clear.
func (s Sealer) Seal(dst []byte, to stc.PublicKey, _, message []byte) ([]byte, error) {
	dst = append(append(dst, s.key[:]...), to[:]...)
	return append(append(dst, padding[:]...), message...), nil
}

// Open appends the message in sealed to dst; stc.ErrForged if it is for
// somebody else.
func (s Sealer) Open(dst []byte, _, sealed []byte) ([]byte, stc.PublicKey, error) {
	if len(sealed) < stc.DatagramOverhead || stc.PublicKey(sealed[stc.PublicKeySize:]) != s.key {
		return nil, stc.PublicKey{}, stc.ErrForged
	}
	return append(dst, sealed[stc.DatagramOverhead:]...), stc.PublicKey(sealed), nil
}
