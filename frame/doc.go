// Package frame is the bytes of STT: the frame header, variable-length
// integers, and the records inside the payloads of DATA, CONTROL and
// STREAM_CONTROL frames. It appends and parses; it never encrypts, never
// allocates on the parsing side, and never trusts a length that it has not
// compared with what is there.
//
// Guarantees: one thing has one encoding, and a parser refuses every other with
// an error; what is parsed points into the input and costs no allocation; every
// length is compared with what is there before it is believed. All parsers are
// fuzzed.
//
// # The frame
//
// A frame is the unit of encryption. On UDP one datagram carries exactly one
// frame; on WebSocket one binary message does.
//
//	 0      1       2                    10
//	+------+-------+--------------------+------------+--------------+
//	| type | epoch |   session ID (8)   | stream (v) | sequence (v) |  header, in clear, authenticated
//	+------+-------+--------------------+------------+--------------+
//	|                    sealed payload                             |
//	+---------------------------------------------------------------+
//	|            crypto metadata: the AEAD tag (16)                 |
//	+---------------------------------------------------------------+
//
// (v) is the variable-length integer of RFC 9000 section 16, in its shortest
// form: a longer one is refused, so that a header has one encoding. The type
// says who opens the payload; epoch is the low byte of the key epoch; the
// stream is 0 for what belongs to the session and 1 to 65535 for the user's
// streams; the sequence number counts the frames that one side has sent in
// the session and never repeats. The AEAD's nonce is made from epoch and
// sequence number, so the tag is all the metadata that a frame has to carry.
//
//	0x01 HANDSHAKE        HELLO, RESPONSE and what precedes keys
//	0x02 DATA             bytes of one stream
//	0x03 CONTROL          records about the session
//	0x04 STREAM_CONTROL   records about one stream
//	0x05 AUTH             AUTH_PROOF and FINAL
//	0x06 DHT              a sealed datagram; session ID, stream and sequence are 0
//	0x07–0x7F             reserved
//	0x80–0xFF             the application's own
//
// # DATA payload
//
//	+-----------+----------------+------------+---------------------+
//	| flags (1) | ACK, if 0x02   | offset (v) | bytes, to the end   |
//	+-----------+----------------+------------+---------------------+
//
// Flag 0x01 is FIN: the stream ends behind these bytes. FIN occupies one
// offset, as in TCP, and an ID that is used again continues where the offsets
// of its former life ended. So a frame that comes late from a former life
// always lies below the new one and is dropped as a duplicate, without a
// generation number on the wire.
//
// # CONTROL payload
//
// Records one after another, to the end:
//
//	0x00 PADDING         nothing
//	0x01 PING            nothing; asks for an acknowledgement
//	0x02 ACK             largest (v), delay in µs (v), ranges behind the first (v), first (v), { gap (v), length (v) }
//	0x03 MAX_DATA        limit (v): sum over all streams of the offsets that the peer may reach
//	0x04 PATH_CHALLENGE  8 bytes
//	0x05 PATH_RESPONSE   8 bytes
//	0x06 CLOSE           code (v), length (v), reason in UTF-8
//
// ACK follows RFC 9000 section 19.3: first is the count of sequence numbers
// below largest that are acknowledged with it; each gap is one less than the
// count of missing numbers between two ranges, each length one less than the
// numbers in the range.
//
// # STREAM_CONTROL payload
//
// Records about the stream in the header, to the end:
//
//	0x01 MAX_STREAM_DATA  limit (v): the offset that the peer may reach
//	0x02 RESET            code (v), final offset (v): the stream ends here, what is missing never comes
//	0x03 STOP_SENDING     code (v), base (v): the reader wants no more; base is the first offset of the stream's present life
package frame
