package stc

// Secret is the traffic secret of one direction of a session in one epoch. Every PacketKey of that direction comes from it.
// It is for one goroutine at a time. Printing one shows nothing of it; hold a *Secret in structs, because package fmt cannot
// call methods on unexported fields.
type Secret [keySize]byte

// Ratchet replaces the secret by the next epoch's, HKDF-Expand(secret, "stt v1 ratchet"), and thereby erases it: from the new
// secret the old one can't be found again. Keys that were made from the old secret stay usable until dropped.
func (s *Secret) Ratchet() {
	next := expandKey(s[:], infoRatchet)
	*s = next
	clear(next[:])
}

// Erase overwrites the secret with zeros. It must not be used afterwards.
func (s *Secret) Erase() { clear(s[:]) }
