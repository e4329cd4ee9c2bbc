package keeper

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
)

func TestFramesRoundTrip(t *testing.T) {
	sent := []*keeperpb.ToKeeper{
		{Seq: 1, Body: &keeperpb.ToKeeper_Hello{Hello: &keeperpb.Hello{Version: "1"}}},
		{},
		{Seq: 3, Body: &keeperpb.ToKeeper_Forget{Forget: &keeperpb.Forget{ContainerId: "c"}}},
	}
	var stream bytes.Buffer
	for _, m := range sent {
		if err := writeFrame(&stream, m, maxRequest); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range sent {
		got := new(keeperpb.ToKeeper)
		if err := readFrame(&stream, got, maxRequest); err != nil || !proto.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	if err := readFrame(&stream, new(keeperpb.ToKeeper), maxRequest); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestFramesAreBounded(t *testing.T) {
	big := &keeperpb.ToKeeper{Body: &keeperpb.ToKeeper_Hello{Hello: &keeperpb.Hello{Version: strings.Repeat("x", 100)}}}
	if err := writeFrame(io.Discard, big, 50); err == nil {
		t.Error("a frame beyond the limit was written")
	}
	for name, stream := range map[string]string{
		"too large":    "\xff\xff\xff\xff",
		"short head":   "\x00\x00",
		"no body":      "\x00\x00\x00\x05",
		"short body":   "\x00\x00\x00\x05abc",
		"not protobuf": "\x00\x00\x00\x02\xff\xff",
	} {
		if err := readFrame(strings.NewReader(stream), new(keeperpb.ToKeeper), maxRequest); err == nil || err == io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02\x08\x01"))
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00\xff\xff12"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := new(keeperpb.ToKeeper)
		if err := readFrame(bytes.NewReader(data), m, 1<<16); err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, m, 1<<17); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
