#include "common/shm/task_heap.h"

namespace reeve::shm {

template class BasicTaskHeap<LivePolicy>;

}  // namespace reeve::shm
