#!/bin/sh
# Stage 1 with the published settings. Change the two paths to yours.
python colorization.py --dataset PlantVillage/Potato --SAVE_PATH PlantVillage/Potato \
    --n_split 5 --img_size 256 --model Unet --batchSize 16 --nEpochs 500
