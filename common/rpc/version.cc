// In a file of its own, so that it is one text of the binary: a test makes a client of another
// version out of it.
#include "common/base/version.h"
#include "common/rpc/client.h"

namespace reeve::rpc {

const char kClientVersion[] = "reeve " REEVE_VERSION_TEXT;

}  // namespace reeve::rpc
