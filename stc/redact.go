package stc

import (
	"fmt"
	"log/slog"
)

// What stands in the place of a secret wherever somebody prints one.
const redacted = "[redacted]"

// redact writes what, whatever the verb: a secret must not reach a log through %x, %#v or %s either.
func redact(f fmt.State, what string) { _, _ = f.Write([]byte(what)) }

// redactedSecret is the printed form of a Secret.
const redactedSecret = "stc.Secret" + redacted

// String never shows the secret.
func (s Secret) String() string { return redactedSecret }

// GoString never shows the secret.
func (s Secret) GoString() string { return redactedSecret }

// Format never shows the secret, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { redact(f, redactedSecret) }

// LogValue never shows the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redactedSecret) }

// MarshalText never shows the secret: it keeps encoding/json, which would print the array, from doing so.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redactedSecret), nil }

// String returns the node ID, which is public, and nothing of the private keys.
func (id Identity) String() string { return "stc.Identity(" + id.nodeID.String() + ")" }

// GoString is String.
func (id Identity) GoString() string { return id.String() }

// Format writes String, whatever the verb.
func (id Identity) Format(f fmt.State, _ rune) { redact(f, id.String()) }

// LogValue is String as a log value.
func (id Identity) LogValue() slog.Value { return slog.StringValue(id.String()) }

// String returns the name, which is public, and nothing of the private key.
func (k NameKey) String() string { return "stc.NameKey(" + k.public.Name().String() + ")" }

// Format writes String, whatever the verb.
func (k NameKey) Format(f fmt.State, _ rune) { redact(f, k.String()) }

// LogValue is String as a log value.
func (k NameKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// String returns the network ID, which is public, and nothing of the seeds.
func (k *Keyring) String() string {
	if k == nil || k.network == nil {
		return "stc.Keyring(none)"
	}
	return "stc.Keyring(" + k.NetworkID().String() + ")"
}

// GoString is String.
func (k *Keyring) GoString() string { return k.String() }

// Format writes String, whatever the verb.
func (k *Keyring) Format(f fmt.State, _ rune) { redact(f, k.String()) }

// LogValue is String as a log value.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Format shows the progress and the peer, and nothing of the keys, whatever the verb.
func (h *Handshake) Format(f fmt.State, _ rune) {
	redact(f, fmt.Sprintf("stc.Handshake(%d of %d messages, peer %v)", h.done, noiseMessages, h.peer))
}

// Format shows the epoch only, whatever the verb.
func (k *PacketKey) Format(f fmt.State, _ rune) {
	redact(f, fmt.Sprintf("stc.PacketKey(epoch %d)", k.epoch))
}

// Format never shows the key, whatever the verb.
func (c *StoreCipher) Format(f fmt.State, _ rune) { redact(f, "stc.StoreCipher"+redacted) }

// Format shows whose datagrams it seals, and nothing of the keys, whatever the verb.
func (s *DatagramSealer) Format(f fmt.State, _ rune) {
	redact(f, fmt.Sprintf("stc.DatagramSealer(%v)", s.id.nodeID))
}

// Format shows which stream it encodes, and nothing of the key, whatever the verb.
func (e *StreamEncoder) Format(f fmt.State, _ rune) {
	redact(f, fmt.Sprintf("stc.StreamEncoder(%v)", e.ID()))
}

// Format shows which stream it decodes, and nothing of the key, whatever the verb.
func (d *StreamDecoder) Format(f fmt.State, _ rune) {
	redact(f, fmt.Sprintf("stc.StreamDecoder(%v)", d.id))
}
