// Command genjson is a protoc plugin (protoc-gen-mesosjson) that writes the JSON codec of
// every message of a file into NAME_json.go beside NAME.pb.go. The codec needs no
// reflection: it is one call of package mesosjson for each field. See sdk/proto/generate.sh.
package main

import (
	"fmt"

	"google.golang.org/protobuf/compiler/protogen"
)

func main() {
	protogen.Options{}.Run(func(plugin *protogen.Plugin) error {
		for _, file := range plugin.Files {
			if !file.Generate {
				continue
			}
			if err := writeFile(plugin, file); err != nil {
				return fmt.Errorf("write the JSON codec of %s: %w", file.Desc.Path(), err)
			}
		}
		return nil
	})
}
