/// A server that speaks OpenAI's protocol over HTTP ([ApiServer]) for one model that an engine of
/// [dev.sluice.serving] runs.
@NullMarked
package dev.sluice.openai;

import org.jspecify.annotations.NullMarked;
