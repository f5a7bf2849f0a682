/* What valgrind offers as macros, as functions. None of them touches the memory it is given. */
#include <stddef.h>
#include <valgrind/memcheck.h>

void shim_hide(const unsigned char *bytes, size_t length) { VALGRIND_MAKE_MEM_UNDEFINED(bytes, length); }
void shim_show(const unsigned char *bytes, size_t length) { VALGRIND_MAKE_MEM_DEFINED(bytes, length); }
size_t shim_errors(void) { return VALGRIND_COUNT_ERRORS; }
int shim_is_watched(void) { return RUNNING_ON_VALGRIND != 0; }
