// Which of the instructions that the processor has may be used, of those that are looked for while the process runs.

#pragma once

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <string_view>

namespace bertstream {
namespace {

// The levels of processor.py, which refuses others. BERTSTREAM_CPU is the best that may be used; BERTSTREAM_AMX=0 is an
// older way to do without AMX.
inline bool may_use(std::string_view wanted) {
  const char* amx = std::getenv("BERTSTREAM_AMX");
  if (wanted == "amx" && amx != nullptr && *amx == '0') return false;
  constexpr std::string_view levels[] = {"none", "avx2", "avx512", "vnni", "bf16", "amx"};
  const auto place = [&](std::string_view name) { return std::find(std::begin(levels), std::end(levels), name); };
  const char* best = std::getenv("BERTSTREAM_CPU");
  return best == nullptr || *best == 0 || place(wanted) <= place(best);
}

}  // namespace
}  // namespace bertstream
