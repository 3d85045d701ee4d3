// The Kubernetes provider as its own release builds it. The module ships every
// package but not the two generated files that its main embeds, so this main
// embeds the files they are generated from; the toolchain copies them here from
// the module cache before it builds (see recipes.py).
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var terraformMapping []byte

func main() {
	provider.Serve("kubernetes", version.Version, schema, terraformMapping)
}
