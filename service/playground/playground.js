/** The page at /: everything it does is a request to the server that sent it, and can be done without it. */

import { keepAddress, tabs } from "./address.js";
import { classifyPanel } from "./classify.js";
import { comparePanel } from "./compare.js";
import { embedPanel } from "./embed.js";
import { mapPanel } from "./map.js";
import { pictureTray } from "./pictures.js";
import { searchPanel } from "./search.js";
import { serverLine } from "./server.js";
import { statusFigures } from "./status.js";

tabs();
pictureTray();
classifyPanel();
searchPanel();
comparePanel();
mapPanel();
embedPanel();
keepAddress();
serverLine();
statusFigures();
