package dht

import "errors"

// The errors of this package. They come wrapped with what was being done;
// test with errors.Is.
var (
	// ErrClosed reports a call on a DHT that is closed, or that was closed
	// while the call was under way.
	ErrClosed = errors.New("dht: closed")
	// ErrNoNodes reports that there was nobody to ask: the table is empty.
	ErrNoNodes = errors.New("dht: no other node is known")
	// ErrNoAnswer reports that nodes were asked and none answered.
	ErrNoAnswer = errors.New("dht: no node answered")
	// ErrRefused reports that nodes answered and none took the record, as
	// happens when a cap of theirs is reached.
	ErrRefused = errors.New("dht: no node stored the record")
	// ErrStale reports that a newer record of the same name is there.
	ErrStale = errors.New("dht: there is a newer record")
	// ErrNoRecord reports that no node that was asked holds a record of the
	// name.
	ErrNoRecord = errors.New("dht: no record of the name was found")
	// ErrBadRecord reports bytes that are no signed record, or none that its
	// key has signed, or a value that does not fit into one.
	ErrBadRecord = errors.New("dht: not a valid record")
	// ErrUnprovided reports that a key was taken back while it was being
	// published.
	ErrUnprovided = errors.New("dht: no longer provided")
	// ErrBusy reports that as many lookups are under way as are allowed.
	ErrBusy = errors.New("dht: too many lookups under way")
	// ErrBadContact reports a contact that nobody can be: its ID is not the
	// ID of its key, it is ourselves, or its address cannot be sent to.
	ErrBadContact = errors.New("dht: not a contact")
	// ErrBadTable reports bytes that MarshalTable did not write.
	ErrBadTable = errors.New("dht: not a saved table")
	// ErrBadConfig reports a Config that cannot work.
	ErrBadConfig = errors.New("dht: bad configuration")

	// errMalformed reports a message that no valid encoder writes.
	errMalformed = errors.New("malformed")
)
