/// Several processes that train one model: who they are, what they exchange, and how the death of
/// one is noticed.
@NullMarked
package dev.sluice.distributed;

import org.jspecify.annotations.NullMarked;
