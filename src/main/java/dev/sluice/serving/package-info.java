/// Many texts at once with one model: [Engine] takes requests ([TextRequest]) and gives what
/// becomes of each ([Ticket]), token by token.
@NullMarked
package dev.sluice.serving;

import org.jspecify.annotations.NullMarked;
