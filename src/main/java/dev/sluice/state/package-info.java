/// What a model keeps of the tokens before.
@NullMarked
package dev.sluice.state;

import org.jspecify.annotations.NullMarked;
