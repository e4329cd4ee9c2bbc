// Command filler opens the store that it is given, or mends it first if there is a second argument, and writes to one key
// after the other: the number of the write, which it prints once it is answered.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/gantry-project/gantry/kernel/store"
)

const writes = 10 // and then it ends

func main() {
	if err := fill(os.Args[1], len(os.Args) > 2); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fill(path string, mend bool) error {
	if mend {
		if _, err := store.Salvage(path); err != nil {
			return err
		}
	}
	s, err := store.OpenBolt(path)
	if err != nil {
		return err
	}
	for i := range writes {
		_, err := s.Apply(context.Background(), store.Txn{Puts: []store.Entry{{Key: fmt.Sprint(i), Value: fmt.Append(nil, i)}}})
		if err != nil {
			return err
		}
		fmt.Println(i)
	}
	return s.Close()
}
