#!/bin/sh
# Stage 2 with the published settings. Change the two paths to yours.
python anomalydetection.py --dataset PlantVillage/Potato --SAVE_PATH PlantVillage/Potato \
    --ADN ResNet18 --CAAN ResNet --attPoint 1 --batchSize 16 --nEpochs 100 --lr 0.0001
