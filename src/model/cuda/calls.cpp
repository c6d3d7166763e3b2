// Calls of libtorch's C++ functions that have no C interface, by the addresses that Rust finds. Rust cannot catch what they throw.
// libtorch's headers are of no use here: those of CUDA, which these need, are no part of it.

#include <cstddef>
#include <cstdio>
#include <exception>
#include <utility>

namespace {

// `c10::MempoolId_t`.
using Pool = std::pair<unsigned long long, unsigned long long>;

template <typename Call>
int caught(const Call& call, char* message, std::size_t size)
{
    try {
        call();
        return 0;
    } catch (const std::exception& error) {
        std::snprintf(message, size, "%s", error.what());
    } catch (...) {
        std::snprintf(message, size, "libtorch threw what is no error");
    }
    return 1;
}

} // namespace

extern "C" {

int maskwatch_call(void (*method)(void*), void* object, char* message, std::size_t size)
{
    return caught([=] { method(object); }, message, size);
}

int maskwatch_construct_graph(void (*constructor)(void*, bool), void* object, char* message, std::size_t size)
{
    return caught([=] { constructor(object, false); }, message, size);
}

int maskwatch_make_pool(Pool (*make)(), unsigned long long* pool, char* message, std::size_t size)
{
    return caught(
        [=] {
            const Pool made = make();
            pool[0] = made.first;
            pool[1] = made.second;
        },
        message, size);
}

int maskwatch_begin_capture(
    void (*begin)(void*, Pool, int), void* object, const unsigned long long* pool, int mode, char* message, std::size_t size)
{
    return caught([=] { begin(object, Pool(pool[0], pool[1]), mode); }, message, size);
}
}
