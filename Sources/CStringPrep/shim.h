#include <idn-free.h>
#include <stringprep.h>

/* An enumerator whose type differs between C and Swift. */
static const int lifeguard_stringprep_no_unassigned = STRINGPREP_NO_UNASSIGNED;
