// Command allocator-drf is the allocator plugin for dominant resource fairness; its
// README says what it is and how to configure it.
package main

import (
	"github.com/gantry-project/gantry/plugins/allocator/drf/policy"
	"github.com/gantry-project/gantry/sdk/allocator"
)

func main() {
	allocator.Main(func(configJSON []byte) (allocator.Policy, error) {
		config, err := policy.ParseConfig(configJSON)
		if err != nil {
			return nil, err
		}
		return policy.New(config)
	})
}
