package ledger

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{" ; ", ""},
		{"cpus:2;mem:4096;ports:[31000-32000,33000-33010];zones:{a,b}", "cpus:2; mem:4096; ports:[31000-32000, 33000-33010]; zones:{a, b}"},
		{" cpus : 2.5 ; ports : [ 1 - 2 , 3 - 4 ] ", "cpus:2.5; ports:[1-4]"},
		{"mem:1;cpus:1;cpus:0.5", "cpus:1.5; mem:1"},
		{"cpus:1e2", "cpus:100"},
		{"cpus:0.0005", "cpus:0.001"},
		{"cpus:0;ports:[];zones:{}", ""},
		{"cpus(*):1;cpus(eng):2;cpus(eng/web):3", "cpus:1; cpus(eng):2; cpus(eng/web):3"},
		{"cpus:123456789012.345", "cpus:123456789012.345"},
	}
	for _, test := range tests {
		got, err := Parse(test.text)
		if err != nil || got.String() != test.want {
			t.Errorf("%q: got %q, %v; want %q", test.text, got, err, test.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ text, want string }{
		{"cpus", "no ':'"},
		{":1", "is empty"},
		{"c pus:1", "no place"},
		{"cpus:", "no number"},
		{"cpus:two", "no number"},
		{"cpus:-1", "value < 0"},
		{"cpus:NaN", "not a finite number"},
		{"cpus:Inf", "not a finite number"},
		{"cpus:1e13", "value >"},
		{"cpus:600000000000;cpus:600000000000", "value >"},
		{"cpus(eng:1", "no ')'"},
		{"cpus():1", "cannot be the empty string"},
		{"cpus(eng):1:2", "no number"},
		{"cpus(a b):1", "whitespace"},
		{"cpus(a(b):1", "no place"},
		{"ports:[1]", "first-last"},
		{"ports:[1-2", "no number"},
		{"ports:[2-1]", "ends before it begins"},
		{"ports:[1-5,5-9]", "overlap"},
		{"ports:[-1-2]", "first-last"},
		{"ports:[1-99999999999999999999]", "first-last"},
		{"zones:{a,a}", "twice"},
		{"zones:{a b}", "no place"},
	}
	for _, test := range tests {
		got, err := Parse(test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %s and %v, want an error with %q", test.text, got, err, test.want)
		}
	}
}

// FuzzParse: what Parse accepts is normal, and is read back from its own words.
func FuzzParse(f *testing.F) {
	f.Add("cpus:2;mem:4096;ports:[31000-32000,33000-33010];zones:{a,b}")
	f.Add("cpus(eng/web):0.0005;cpus(*):1e2; ports : [0-18446744073709551615]")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		if err := checkNormal(r); err != nil {
			t.Fatal(err)
		}
		if back, err := Parse(r.String()); err != nil || !back.Equal(r) {
			t.Fatalf("%q is %s, which is read as %s, %v", text, r, back, err)
		}
		if back, err := FromMesos(r.Mesos("")); err != nil || !back.Equal(r) {
			t.Fatalf("%s came back as %s, %v", r, back, err)
		}
	})
}
