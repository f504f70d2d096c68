package content_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/seigr/sttnode/content"
)

// exampleStore opens a store that is gone when the example ends.
func exampleStore() (s *content.Store, remove func()) {
	dir, err := os.MkdirTemp("", "content")
	if err != nil {
		log.Fatal(err)
	}
	if s, err = content.Open(dir, content.Config{Key: [32]byte{1}}); err != nil { // the key: stc.Identity.StoreKey
		log.Fatal(err)
	}
	return s, func() {
		s.Close()
		os.RemoveAll(dir)
	}
}

func ExampleStore_OpenFile() {
	s, remove := exampleStore()
	defer remove()
	stored, err := s.ImportReader(context.Background(), strings.NewReader("The quick brown fox"), content.ImportOptions{})
	if err != nil {
		log.Fatal(err)
	}

	f, err := s.OpenFile(stored.Root)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	f.Seek(-3, io.SeekEnd)
	end, err := io.ReadAll(f)
	fmt.Printf("%s %v\n", end, err)
	word := make([]byte, 5)
	_, err = f.ReadAt(word, 4)
	fmt.Printf("%s %v\n", word, err)
	// Output:
	// fox <nil>
	// quick <nil>
}

func ExampleStore_FS() {
	s, remove := exampleStore()
	defer remove()
	album, err := os.MkdirTemp("", "album")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(album)
	os.Mkdir(filepath.Join(album, "2024"), 0o755)
	os.WriteFile(filepath.Join(album, "2024", "sea.jpg"), []byte("waves"), 0o644)
	os.WriteFile(filepath.Join(album, "index.txt"), []byte("one picture"), 0o644)
	stored, err := s.Import(context.Background(), album, content.ImportOptions{Name: "album"})
	if err != nil {
		log.Fatal(err)
	}

	fsys, err := s.FS(stored.Root)
	if err != nil {
		log.Fatal(err)
	}
	fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		fmt.Println(path)
		return err
	})
	index, err := fs.ReadFile(fsys, "index.txt")
	fmt.Printf("%s %v\n", index, err)
	// Output:
	// .
	// 2024
	// 2024/sea.jpg
	// index.txt
	// one picture <nil>
}
