package content

import "errors"

var (
	// ErrNotFound reports a blob that the store does not hold.
	ErrNotFound = errors.New("content: not found")
	// ErrCorrupt reports stored bytes that are not what was stored. They are never handed out.
	ErrCorrupt = errors.New("content: stored data is damaged")
	// ErrDiskFull reports that the disk, or the user's quota on it, has no room left. What was acknowledged before is safe,
	// and the store works again when there is room.
	ErrDiskFull = errors.New("content: disk full")
	// ErrLimit reports that the store's limit leaves no room, and that nothing in it may be dropped. The error is a *LimitError.
	ErrLimit = errors.New("content: the store has reached its limit")
	// ErrLocked reports a store that another process, or another Store of this one, has open.
	ErrLocked = errors.New("content: store is in use by another process")
	// ErrClosed reports the use of a Store behind its Close.
	ErrClosed = errors.New("content: store is closed")
	// ErrNoKey reports a store that was to be opened under a key of zeros, which everybody knows.
	ErrNoKey = errors.New("content: the store needs a key, as from stc.Identity.StoreKey")
	// ErrWrongKey reports a store that was made with another key, that is, by another node.
	ErrWrongKey = errors.New("content: store belongs to another node")
	// ErrFormat reports a store whose format this program does not know.
	ErrFormat = errors.New("content: unknown store format")
	// ErrTooLarge reports a blob longer than MaxBlobSize.
	ErrTooLarge = errors.New("content: blob too large")
	// ErrManifest reports bytes that are no manifest node, or not the one that the referring node promised.
	ErrManifest = errors.New("content: malformed manifest")
	// ErrName reports a file name or a link that manifests, or this system, can't hold.
	ErrName = errors.New("content: invalid name")
	// ErrChanged reports a file that changed while it was being read.
	ErrChanged = errors.New("content: file changed while being read")
	// ErrFileType reports something that is neither a regular file nor a directory nor a symbolic link.
	ErrFileType = errors.New("content: unsupported type of file")
	// ErrChunking reports a way to cut files into chunks that there isn't.
	ErrChunking = errors.New("content: chunks are not possible")
	// ErrPattern reports a pattern of names that can't be understood.
	ErrPattern = errors.New("content: invalid pattern")
	// ErrTarget reports a path that an export can't write to.
	ErrTarget = errors.New("content: output can't be written")
)
