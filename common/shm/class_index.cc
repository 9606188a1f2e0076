#include "common/shm/class_index.h"

namespace reeve::shm {

template class BasicClassIndex<LivePolicy>;

}  // namespace reeve::shm
