package arouter

import (
	"bufio"
	"bytes"
	"io"
)

// eventReader reads Server-Sent Events. Lines end with LF, CR or CRLF, and may be of any length: a chunk with an image
// runs to megabytes. Comments, and fields other than data, are skipped.
type eventReader struct {
	source   *bufio.Reader
	skipLF   bool // a CR has ended the line before
	started  bool
	finished bool
}

func newEventReader(source io.Reader) *eventReader {
	return &eventReader{source: bufio.NewReader(source)}
}

// next returns the data of the next event that has any; io.EOF or another error where the source ends.
// It also returns a last event without its empty line, which some servers forget.
func (r *eventReader) next() ([]byte, error) {
	var data []byte
	found := false
	for !r.finished {
		line, err := r.line()
		if err != nil && err != io.EOF {
			return nil, err
		}
		r.finished = err == io.EOF
		if len(line) == 0 {
			if found {
				return data, nil
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(name) != "data" {
			continue // a comment has an empty name
		}
		if found {
			data = append(data, '\n')
		}
		data = append(data, bytes.TrimPrefix(value, []byte(" "))...)
		found = true
	}
	if found {
		return data, nil
	}
	return nil, io.EOF
}

// line returns the next line without its end; io.EOF with the last one.
func (r *eventReader) line() ([]byte, error) {
	var line []byte
	for {
		b, err := r.source.ReadByte()
		if err != nil {
			return r.withoutBOM(line), err
		}
		if r.skipLF {
			r.skipLF = false
			if b == '\n' {
				continue
			}
		}
		if b == '\n' || b == '\r' {
			r.skipLF = b == '\r'
			return r.withoutBOM(line), nil
		}
		line = append(line, b)
	}
}

func (r *eventReader) withoutBOM(line []byte) []byte {
	if !r.started {
		r.started = true
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return line
}
