/// What a model keeps of the tokens before, while a sequence goes on
/// ([dev.sluice.state.SequenceState]) and for others that begin alike
/// ([dev.sluice.state.PrefixCache]).
@NullMarked
package dev.sluice.state;

import org.jspecify.annotations.NullMarked;
