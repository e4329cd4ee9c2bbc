// Command marathon runs services: so many instances of a command, kept up, scaled and
// replaced version by version, behind the /v2 REST API that clients of Marathon speak. It
// is a framework plugin; README.md tells how to configure it. The decisions are in package
// apps, the HTTP surface in package rest; here they are connected to the kernel.
package main

import "github.com/gantry-project/gantry/sdk/framework"

func main() { framework.Main(plugin{}) }
