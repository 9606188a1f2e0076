// The version of this build, one for the binary, its protocol and its files.
#pragma once

namespace reeve {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace reeve
