#include "kv_write/cpu.h"

namespace inferd {

void kv_write(const KvWriteArgs& args, int64_t rows, Team& team) {
  team.each(rows * args.heads, 32, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) write_head(args, i / args.heads, i % args.heads);
  });
}

}  // namespace inferd

INFERD_OPERATION(kv_write, KvWriteArgs)
