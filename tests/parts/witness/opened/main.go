// Opens a cosigned checkpoint with the verifiers of the witness's own libraries: opened LOG-VKEY CHECKPOINT WITNESS-VKEY...
// Prints the size and one line a witness whose cosignature holds; exits 1 where the log's signature or any witness's does not.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/formats/note"
	sumdb "golang.org/x/mod/sumdb/note"
)

func main() {
	if len(os.Args) < 4 {
		fail("opened LOG-VKEY CHECKPOINT WITNESS-VKEY...")
	}
	logVerifier, err := note.NewVerifier(strings.TrimSpace(os.Args[1]))
	check(err)
	text, err := os.ReadFile(os.Args[2])
	check(err)
	var witnesses []sumdb.Verifier
	for _, vkey := range os.Args[3:] {
		verifier, err := note.NewVerifierForCosignatureV1(strings.TrimSpace(vkey))
		check(err)
		witnesses = append(witnesses, verifier)
	}
	checkpoint, _, opened, err := log.ParseCheckpoint(text, logVerifier.Name(), logVerifier, witnesses...)
	check(err)
	fmt.Println("size", checkpoint.Size)
	held := map[string]bool{}
	for _, signature := range opened.Sigs {
		held[fmt.Sprintf("%s+%08x", signature.Name, signature.Hash)] = true
	}
	for _, verifier := range witnesses {
		if !held[fmt.Sprintf("%s+%08x", verifier.Name(), verifier.KeyHash())] {
			fail("no cosignature by " + verifier.Name())
		}
		fmt.Println("cosigned", verifier.Name())
	}
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(what string) {
	fmt.Fprintln(os.Stderr, what)
	os.Exit(1)
}
