// The version of this build, one for the binary, its protocol and its files.
#pragma once

#define REEVE_VERSION_TEXT "0.1.0"

namespace reeve {

inline constexpr char kVersion[] = REEVE_VERSION_TEXT;

}  // namespace reeve
