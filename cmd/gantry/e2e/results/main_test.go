package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestShow(t *testing.T) {
	for name, c := range map[string]struct {
		events, want string
		passed       bool
	}{
		"all passed": {`
{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Test":"TestX","Output":"chatter\n"}
{"Action":"pass","Package":"a","Test":"TestX","Elapsed":1}
{"Action":"output","Package":"a","Output":"PASS\n"}
{"Action":"pass","Package":"a","Elapsed":1.25}
{"Action":"skip","Package":"b"}`, "ok    a  1.2 s\n", true},
		"one failed, and is shown without the other": {`
{"Action":"output","Package":"a","Test":"TestX","Output":"bad\n"}
{"Action":"output","Package":"a","Test":"TestY","Output":"good\n"}
{"Action":"output","Package":"a","Test":"TestX","Output":"worse\n"}
{"Action":"fail","Package":"a","Test":"TestX"}
{"Action":"pass","Package":"a","Test":"TestY"}
{"Action":"fail","Package":"a","Elapsed":2}`, "bad\nworse\nFAIL  a  2.0 s\n", false},
		"it does not compile": {`
{"ImportPath":"a","Action":"build-output","Output":"a.go:1: no\n"}
{"ImportPath":"a","Action":"build-fail"}
{"Action":"fail","Package":"a","Elapsed":0,"FailedBuild":"a"}`, "a.go:1: no\nFAIL  a  0.0 s\n", false},
		"a process died": {`
{"Action":"output","Package":"a","Output":"panic: no\n"}
{"Action":"fail","Package":"a","Elapsed":3}`, "panic: no\nFAIL  a  3.0 s\n", false},
		"nothing ran":          {"", "", false},
		"something else wrote": {"\ndownloading\n{\"Action\":\"pass\",\"Package\":\"a\"}", "downloading\nok    a  0.0 s\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "results", "all.json")
			events := strings.TrimPrefix(c.events, "\n")
			var screen bytes.Buffer
			passed, err := keep(strings.NewReader(events), &screen, path)
			if err != nil || passed != c.passed || screen.String() != c.want {
				t.Errorf("%v, %v, %q; want %v, %q", err, passed, screen.String(), c.passed, c.want)
			}
			if kept, err := os.ReadFile(path); err != nil || !strings.HasSuffix(events, string(kept)) {
				t.Errorf("%v, kept %q", err, kept)
			}
		})
	}
}
