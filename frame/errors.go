package frame

import "errors"

var (
	// ErrTruncated reports bytes that end before what they announce.
	ErrTruncated = errors.New("truncated")
	// ErrMalformed reports bytes that no valid encoder writes.
	ErrMalformed = errors.New("malformed")
)
