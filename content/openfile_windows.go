package content

import "os"

const openForReading = os.O_RDONLY
