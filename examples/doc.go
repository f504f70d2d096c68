// Package examples holds programs that show what the library is for, each in
// one file, on this machine, done within seconds: go run ./examples/hello. Beside
// each lies what it prints, output.txt, which a test compares. hello is complete; to
// copy another, take the functions of hello in place of internal/loopback.
//
//	hello       Alice and Bob exchange a message
//	file        files over streams of one session
//	sensor      a live stream of readings, and events when one is too high
//	sensornet   readings kept under their hashes, and events
//	video       one source, several viewers and a recording: all of it composed
//	broadcast   one server, many viewers, one of whom falls asleep
//	chat        frames of the application's own
//	discovery   somebody is found by what he provides
//	rotation    keys are replaced while data flows
package examples
