// Starts the page: after each change every part redraws itself, then missing data is requested.

import { askForMissing } from "./asking.js";
import { startAnswers } from "./answers.js";
import { startCamera } from "./camera.js";
import { startCard } from "./card.js";
import { startFrames } from "./frames.js";
import { startInstance } from "./instance.js";
import { lookAgain, startModels } from "./models.js";
import { startNumbers } from "./numbers.js";
import { startPictures } from "./pictures.js";
import { startSaliency } from "./saliency.js";
import { changed, onChange } from "./state.js";
import { startTheme } from "./theme.js";

startTheme();
startCamera();
for (const start of [startModels, startPictures, startFrames, startAnswers, startSaliency, startCard]) onChange(start());
onChange(askForMissing);
startNumbers(lookAgain);
startInstance();
changed();
