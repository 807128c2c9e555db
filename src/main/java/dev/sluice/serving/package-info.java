/// A model for whoever asks it: [TextModel] is one that is open. Below it [Engine] writes many
/// texts at once: it takes requests ([TextRequest]) and gives what becomes of each ([Ticket]),
/// token by token.
@NullMarked
package dev.sluice.serving;

import org.jspecify.annotations.NullMarked;
