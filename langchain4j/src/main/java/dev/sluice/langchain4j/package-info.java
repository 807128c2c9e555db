/// Models of Sluice for LangChain4j, in the same process: [SluiceChatModel],
/// [SluiceStreamingChatModel] and [SluiceEmbeddingModel] over one [dev.sluice.serving.TextModel],
/// which whoever opened it closes. What cannot be honoured is refused by name.
@NullMarked
package dev.sluice.langchain4j;

import org.jspecify.annotations.NullMarked;
